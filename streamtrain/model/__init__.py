"""The FastGRNN as data: its arithmetic, its quantization and its files."""
