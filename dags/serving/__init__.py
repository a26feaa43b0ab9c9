"""`dimo serve`: deployments, their triggers and the services that run them."""
