"""Serving: loads the published version, scores, and swaps when another is published. Nothing of the trainer."""
