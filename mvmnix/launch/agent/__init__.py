"""The host's end of the framed protocol with one guest agent (docs/reference/channel.md): bytes, streams, services."""
