"""The report page about runs, its charts and template."""
