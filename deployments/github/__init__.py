"""Jobs of GitHub Actions: the report on a pull request, its comment, the summary of a job."""
