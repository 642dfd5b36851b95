"""Solve a small system of linear equations, and say where that happened."""

import platform

import numpy as np

matrix = np.array([[3.0, 1.0], [1.0, 2.0]])
solution = np.linalg.solve(matrix, np.array([9.0, 8.0]))
print(f"numpy {np.__version__} on {platform.system()}: x = {solution.round(6).tolist()}")
