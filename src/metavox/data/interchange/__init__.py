"""Outside formats become a Metavox corpus folder: lhotse, Kaldi, Common Voice, annotation tiers, the Hub."""
