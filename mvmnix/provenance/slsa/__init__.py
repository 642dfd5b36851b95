"""What builders say of builds: SLSA provenance and parts, as nouns, read strictly."""
