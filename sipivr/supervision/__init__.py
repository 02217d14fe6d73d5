"""`sipivr serve`: starts the kinds of process, gives them what outlives them, restarts what dies."""
