"""Bytes in object storage: which objects a commit needs, the bucket's access, transfers with proof.

It may import `repository`, `runs` and `core`. DVC's argvs are here.
"""
