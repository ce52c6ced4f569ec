"""Error codes of AWS services, and of S3 servers that speak like one."""

from __future__ import annotations

# The credentials are wrong, have expired or lack a right: another try does not change that.
DENIED = {
    "403", "AccessDenied", "AccessDeniedException", "AllAccessDisabled", "ExpiredToken",
    "ExpiredTokenException", "IncompleteSignature", "InvalidAccessKeyId", "InvalidClientTokenId",
    "InvalidSignatureException", "InvalidToken", "MissingAuthenticationToken",
    "SignatureDoesNotMatch", "UnrecognizedClientException",
}  # fmt: skip
