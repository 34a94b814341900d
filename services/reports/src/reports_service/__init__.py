"""The reports service: a template, parameters and data become a document."""
