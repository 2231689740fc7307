"""Files: atomic writes, safetensors, and what a checkpoint holds."""
