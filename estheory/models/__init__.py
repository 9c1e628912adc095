"""Language models: loading, built-in models, decoding, flat parameters and counter-based noise."""
