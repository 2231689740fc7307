"""Any user's array as what kernels accept, or one clear error."""
