"""Models as endpoints on Amazon SageMaker, updated blue/green."""
