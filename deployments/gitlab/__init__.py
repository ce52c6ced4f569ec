"""Jobs of GitLab CI: the pipeline, the report on a merge request, its note, results of a job."""
