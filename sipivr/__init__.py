"""sipivr: SIP signalling, call logic, the dialogue with the customer and the payment gateway."""
