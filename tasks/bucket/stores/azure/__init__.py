"""Azure Blob Storage; its packages are the extra `azure`."""
