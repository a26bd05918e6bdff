"""The demo: small models from the bundled sample, trained in minutes, run in the engine, shown on a page."""
