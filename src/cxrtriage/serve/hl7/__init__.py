"""The hospital's information system: orders and final reports in over HL7 v2, preliminary results out."""
