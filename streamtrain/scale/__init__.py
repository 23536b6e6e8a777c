"""What outgrows one machine: a backlog of years read and trained on by many, and a sweep over settings."""
