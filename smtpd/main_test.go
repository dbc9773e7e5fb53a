package smtpd

import (
	"testing"

	"go.uber.org/goleak"
)

// No goroutine may outlive Shutdown.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
