"""Who speaks: from sound to the vector of a voice, from two of them to a likelihood ratio, and how both are learned.

What is heard of a clip is a ``Heard``; an enrolled voice is the ``Heard`` of its clips. ``VoiceModel`` compares them.
"""
