"""AWS: SageMaker, and the registry for its images."""
