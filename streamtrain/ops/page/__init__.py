"""The status page: what is done, what is served and why, over HTTP and strictly for reading."""
