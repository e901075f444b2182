// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/plugin/wire"
)

// ProtocolVersion is the version of authn.proto that this package speaks.
const ProtocolVersion = 1

// pluginName is go-plugin's name for what we dispense.
const pluginName = "authn"

// Handshake tells a provider that the worker started it. It protects nothing;
// it keeps people from running a provider by hand and wondering.
var Handshake = goplugin.HandshakeConfig{
	ProtocolVersion:  ProtocolVersion,
	MagicCookieKey:   "AUTHN_PROVIDER_COOKIE",
	MagicCookieValue: "pam-authn provider",
}

// Main serves the provider that newProvider makes, to the worker that started
// this process; it is all of a provider's main function:
//
//	func main() { plugin.Main(New) }
//
// The type C is the provider's configuration: a struct whose fields carry yaml
// tags. It is decoded strictly: an unknown key or a wrong type refuses every
// call with an error that names file, line and key, and the zero value is the
// default of a key that is absent. newProvider validates it, reporting every
// problem at once with [errors.Join], and does no network: it also runs when
// an administrator checks the configuration offline.
//
// The logger's lines go to the administrator's log; a line's level decides
// whether it needs the word debug on the PAM line.
func Main[C any, P authn.Authenticator](newProvider func(C, *slog.Logger) (P, error)) {
	if os.Getenv(Handshake.MagicCookieKey) != Handshake.MagicCookieValue {
		os.Exit(byHand(os.Stdout, os.Stderr, os.Args))
	}
	undumpable()
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig:  Handshake,
		VersionedPlugins: plugins(service(newProvider)),
		GRPCServer:       grpcServer(peerParent),
		Logger:           hclog.NewNullLogger(),
	})
}

func plugins(s wire.ProviderServer) map[int]goplugin.PluginSet {
	return map[int]goplugin.PluginSet{ProtocolVersion: {pluginName: &grpcPlugin{server: s}}}
}

// grpcServer makes the provider's gRPC server: one peer, small messages.
func grpcServer(peer peerCheck) func([]grpc.ServerOption) *grpc.Server {
	return func(opts []grpc.ServerOption) *grpc.Server {
		return grpc.NewServer(append(opts,
			grpc.Creds(peerCredentials{check: peer}),
			grpc.MaxRecvMsgSize(authn.MaxMessage),
			grpc.MaxSendMsgSize(authn.MaxMessage),
			grpc.MaxConcurrentStreams(16),
		)...)
	}
}

// undumpable keeps other processes of this uid from reading our memory even
// where the binary was installed readable. A core file is out of the question
// then, too.
func undumpable() {
	const prSetDumpable = 4
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, prSetDumpable, 0, 0)
}

const usage = `%[1]s is a provider for pam_authn: it decides who may log in, and PAM starts it.

To use it, name it in a file of /etc/pam.d:

    auth  required  pam_authn.so  provider=%[2]s

and write its configuration to /etc/authn/%[3]s.yaml. Then

    authnctl check /etc/authn/%[3]s.yaml
    authnctl try --provider %[2]s --user NAME

check the configuration and try a login in this terminal.
`

// byHand explains the program to a person who started it.
func byHand(stdout, stderr io.Writer, args []string) int {
	program := filepath.Base(args[0])
	if len(args) == 2 && (args[1] == "-version" || args[1] == "--version") {
		_, _ = fmt.Fprintf(stdout, "%s %s\n", program, buildVersion())
		return 0
	}
	name, provider := program, args[0]
	if len(program) > len("authn-") && program[:len("authn-")] == "authn-" {
		name = program[len("authn-"):]
	}
	if path, err := filepath.Abs(provider); err == nil && strings.Contains(provider, "/") {
		provider = path // PAM lines take whole paths only
	}
	if installed(provider) {
		provider = name
	}
	_, _ = fmt.Fprintf(stderr, usage, program, provider, name)
	return 2
}

// installed guesses whether the provider can be named without its path.
func installed(path string) bool {
	dir := filepath.Dir(path)
	return filepath.Base(dir) == "providers" && filepath.Base(filepath.Dir(dir)) == "authn"
}

// Version is set by the linker for released programs.
var Version string

// buildVersion says which version of the program this is.
func buildVersion() string {
	if Version != "" {
		return Version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
