"""Brings OCI images by digest to the builder, and finds what is attached to them; layers are opened in the VM."""
