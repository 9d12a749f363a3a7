"""A model behind HTTP: an endpoint that other tools speak, and one page. Needs the extra [serve]; the engine does not."""
