"""What jobs of GitHub Actions run: the report on a pull request, its comment, a job's summary."""
