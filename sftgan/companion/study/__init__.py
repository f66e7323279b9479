"""The study: profiles, configs, stages and their cache."""
