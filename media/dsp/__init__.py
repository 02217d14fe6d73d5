"""Signal processing for all legs at once.

Pure functions and tables on arrays of shape `(legs, samples)`, int16 at 8 kHz. State is passed in and
returned; there is no socket, clock, log or source of randomness in here.
"""
