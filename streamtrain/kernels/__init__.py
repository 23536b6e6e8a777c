"""Numba kernels: arrays in, arrays out; nothing here knows of files, models or schedules."""
