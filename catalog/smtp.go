package catalog

// ReadSMTP reads the final reply to AUTH (RFC 4954): its code, and its enhanced
// status code (RFC 3463, such as 5.7.8) where the server gave one. The text of
// a reply says nothing that can be relied on.
func ReadSMTP(code int, enhanced string) Outcome {
	o := readSMTP(code, enhanced)
	if codeForm.MatchString(enhanced) {
		o.Code = enhanced
	}
	return o
}

func readSMTP(code int, enhanced string) Outcome {
	switch code {
	case 235:
		return Outcome{Result: Valid, Detail: "The mail server accepts the user name and password."}
	case 535:
		// Exchange Online's way to say that its tenant has turned SMTP AUTH off.
		if enhanced == "5.7.139" {
			return Outcome{Result: Misconfigured, Detail: "The mail server does not let this account sign in over SMTP."}
		}
		return Outcome{Result: Invalid, Detail: "The mail server does not accept the user name and password."}
	case 534:
		return Outcome{Result: Misconfigured, Detail: "The mail server asks for a stronger sign-in, such as an app password."}
	case 504, 538:
		return Outcome{Result: Misconfigured, Detail: "The mail server does not take passwords in this way on this port."}
	case 432:
		return Outcome{Result: Restricted, Detail: "The mail server asks for the password to be changed first."}
	}
	if code >= 400 && code < 500 {
		return Outcome{Result: Indeterminate, Detail: "The mail server cannot check passwords at the moment; test again later."}
	}
	return Outcome{Result: Indeterminate, Detail: "The mail server's reply does not say whether the password is right."}
}
