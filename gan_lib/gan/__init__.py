"""The GAN explainers (systems 1 and 2): conditions, generators, objectives, training, relevance."""
