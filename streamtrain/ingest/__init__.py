"""Log bytes → complete lines → samples, each line exactly once, whatever happens to the files."""
