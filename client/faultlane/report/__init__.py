"""What a run or a comparison found out, as text: pure functions of what came over the wire."""
