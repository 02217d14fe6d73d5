"""The media plane: RTP in, RTP out, key presses and masks, on arrays of all legs at once."""
