"""Network classes. Modules here import torch for real; the factories import them when they are called."""
