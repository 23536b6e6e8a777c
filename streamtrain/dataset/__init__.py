"""The rolling dataset: samples and offsets in one database, and the arrays that training takes from it."""
