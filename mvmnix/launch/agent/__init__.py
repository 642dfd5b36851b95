"""The host's end of the framed protocol with one guest agent (docs/channel.md): bytes, streams, services."""
