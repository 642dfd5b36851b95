"""What is said about an image, by whom, and whether a trust policy trusts it."""
