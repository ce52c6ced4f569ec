"""Any S3 server."""
