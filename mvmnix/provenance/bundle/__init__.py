"""What is signed and how it is carried: in-toto statements, DSSE envelopes and Sigstore bundles, without any trust."""
