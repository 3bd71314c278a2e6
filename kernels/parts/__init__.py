"""What several kernels, or one large kernel, are made of: tilings in closed form, buffers, operand panels."""
