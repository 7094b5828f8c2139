"""From folders of recordings to tasks: manifests, synthetic speech, the bank of audio and features, episodes."""
