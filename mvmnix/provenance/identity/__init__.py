"""Who signed: keys, certificates, trust domains and their logs, revocations."""
