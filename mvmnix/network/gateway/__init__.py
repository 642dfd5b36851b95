"""The process that holds a guest's connections and questions against its rules."""
