"""Jobs of any CI: the report on a model and its comment, the result of a deploy, what is pulled."""
