"""The page about runs, its charts and template."""
