"""What a step costs: time, memory, copies, communication."""
