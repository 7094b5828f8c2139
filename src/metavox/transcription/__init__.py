"""Recognisers that are trained, stored, adapted and opened again: from transcribed recordings to a model that ships."""

from .models import load_recogniser as load_recogniser
