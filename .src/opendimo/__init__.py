"""OpenDiMo: the data pipeline and the trainer of 3DiMo, one package for each room of the repository."""
