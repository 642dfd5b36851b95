"""Brings OCI images, pinned by digest, to the builder: names, descriptions, registries; layers are opened in the VM."""
