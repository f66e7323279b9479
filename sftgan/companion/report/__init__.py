"""Tables, statistics, claims and plots."""
